"""What each of our error codes is called in the result codes of ISO 20022 terminal management. Pure.

Owns: the one mapping, total over the catalogue, for records, tickets and status reports.
Sources: the codes are those of TerminalManagementActionResult5Code in the schema of catm.001.001.13 (StatusReport),
read in a public copy; the meanings beside them are those that two public renderings of the ISO repository give. Not
seen: ISO's own message definition report. ACCD is "access denied", not "accepted". The set has no code for faults of
the hardware (ATM messages have HRDW), for what a person cancelled, nor UNPR; such things are ULER here, and our own
code stands beside it.
Rules: the meaning decides, not the sound: TIMO and CNTE are about the transfer, so a self-test out of time is neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Result(StrEnum):
    """The codes that are used here."""

    SUCC = "SUCC"  # performed
    WARN = "WARN"  # performed, but some warnings arose
    ACCD = "ACCD"  # access denied
    CNTE = "CNTE"  # could not connect
    CMER = "CMER"  # communication failed after the connection was there
    TIMO = "TIMO"  # time ran out during the transfer
    FMTE = "FMTE"  # wrong format
    SYNE = "SYNE"  # wrong syntax
    LENE = "LENE"  # wrong length
    INVC = "INVC"  # invalid content
    SIGE = "SIGE"  # wrong digital signature
    UKRF = "UKRF"  # the signature's key is not valid
    UKDT = "UKDT"  # the data set's identification is invalid
    OVER = "OVER"  # no memory left to store it
    MISS = "MISS"  # the data set is missing
    NSUP = "NSUP"  # not supported
    ULER = "ULER"  # an error that has no code in the set


def _table(rows: Mapping[Result, str]) -> dict[str, Result]:
    found = [(code, result) for result, codes in rows.items() for code in codes.split()]
    assert len(dict(found)) == len(found), "a code stands twice"
    return dict(found)


RESULT_OF: Mapping[str, Result] = _table(
    {
        Result.SUCC: "nothing_to_cancel nothing_asked same_bundle no_update",
        Result.ACCD: (
            "critical_section busy gate_closed defer_spent not_allowed already_running test_refused payment_full"
            " payment_silent payment_absent unlock_refused unlock_expired unlock_wait sign_again rollback_floor"
            " counter_too_low repository_rollback bundle_sealed slot_is_booted slot_not_complete fetch_insecure"
            " fetch_metered support_no_key keys_exist not_signed"
            " rollback_data data_secret_found data_restore_loses data_restore_doubles"
        ),
        Result.CNTE: (
            "agent_unreachable no_terminal fetch_network fetch_tls fetch_portal fetch_proxy net_link net_dns"
            " net_connect tls_clock tls_authority tls_name"
        ),
        Result.CMER: "line_lost upload_failed fetch_status fetch_link_changed",
        Result.TIMO: "fetch_stalled fetch_timeout",
        Result.FMTE: "fleet_answer bundle_unreadable support_unreadable fetch_pointer revocation_unclear",
        Result.SYNE: (
            "unknown_verb bad_request line_too_long config_unreadable config_unknown_key config_missing_key"
            " config_bad_value config_same_device"
        ),
        Result.LENE: "fetch_length",
        Result.INVC: (
            "payload_corrupt codec_differs challenge_differs upload_differs fetch_changed report_altered audit_broken"
            " boot_failed selftest_failed selftest_deadline selftest_daily data_step_failed"
            " data_money_differs data_backup_corrupt parameters_invalid"
        ),
        Result.SIGE: "signature_invalid repository_expired repository_stale report_signer",
        Result.UKRF: "fleet_credentials trust_store_damaged engineer_key keys_unusable data_key",
        Result.UKDT: "source_differs slot_changed wrong_hardware",
        Result.OVER: "bundle_too_large slot_too_small fetch_too_large spool_full data_no_space",
        Result.MISS: "rollback_no_version fetch_source fetch_no_stick bundle_incomplete bundle_partial data_none",
        Result.NSUP: "slot_missing no_zmodem machine_version data_newer data_older parameters_alone",
        Result.ULER: (
            "laptop_io audit_unreadable evidence_io slot_io read_back_differs boot_env_missing boot_env_not_redundant"
            " boot_env_write booted_slot_unknown spool_io commit_lost no_way_back restart_put_off reboot_failed"
            " support_failed release_io interrupted worker_lost worker_stalled journal_damaged journal_io"
            " cancelled superseded parameters_reload data_unreadable data_io internal"
        ),
    }
)


def result_of(outcome: str, code: str, warnings: Iterable[str] = ()) -> Result:
    """Of an update that ended; a code of a later release is an error that is not listed."""
    if outcome == "committed":
        return Result.WARN if any(warnings) else Result.SUCC
    found = RESULT_OF.get(code, Result.ULER)
    return Result.ULER if found is Result.SUCC else found  # it was not performed, whatever is said of it
