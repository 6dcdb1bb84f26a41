"""The merchant's data: generations of it, migration, backup and restore. Opens nothing by itself: ports do."""
