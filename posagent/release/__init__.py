"""For release engineers: keys, bundles, repositories. Never imported on the terminal."""
