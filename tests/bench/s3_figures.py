"""Figures with a bucket as the destination."""

from .bench import Bench
from .corpus import HEAVY, TO_S3
from .s3_contest import S3Contest, rclone_version
from .tables import MIB, pair_head, pair_row


def s3(bench: Bench) -> None:
    """Onto S3, beside rclone."""
    rows = []
    kinds = [True, False] if bench.chosen.without_sidecars else [True]
    with bench.contests(TO_S3, bench.chosen.scheme, S3Contest) as contests:
        for contest in contests:
            for contest.sidecars in kinds:
                contest.make_ready(2 * bench.chosen.rounds)
                ours, theirs = [], []
                for _ in range(bench.chosen.rounds):
                    ours.append(bench.note("s3", "archiver", contest, contest.archive()))
                    theirs.append(bench.note("s3", "rclone", contest, contest.rclone()))
                called = f"{bench.called(contest)}{'' if contest.sidecars else ', no sidecars'}"
                rows.append(pair_row(called, contest.scheme, ours, theirs))
    about = (
        f"Medians of {bench.chosen.rounds} alternating pairs onto `rclone serve s3`, which works on the same cores, "
        "into a fresh bucket each. The archiver lists, fetches, checks, puts each recording and its sidecar, reads "
        "both heads back and keeps the ledger, `durable = false`, concurrency 32; a second run after each made no "
        f"media request and no PUT. `rclone copy --transfers 32 --checkers 32` ({rclone_version()}) copies the same "
        "media from the web server's index, with a HEAD, a GET, a PUT and a HEAD for each."
    )
    bench.publish("s3", "To S3, against rclone", about, pair_head("archiver", "rclone"), rows)


def s3boto3(bench: Bench) -> None:
    """What boto3 leaves room for: a loop of it alone, beside rclone."""
    rows = []
    with bench.contests(TO_S3, ["http"], S3Contest) as contests:
        for contest in contests:
            contest.make_ready(2 * bench.chosen.rounds)
            bare, theirs = [], []
            for _ in range(bench.chosen.rounds):
                bare.append(bench.note("s3boto3", "boto3", contest, contest.boto3()))
                theirs.append(bench.note("s3boto3", "rclone", contest, contest.rclone()))
            rows.append(pair_row(bench.called(contest), contest.scheme, bare, theirs))
    about = (
        "The same, with a loop that does nothing but GET, `put_object` and `head_object` in 32 threads of one process: no "
        "digest, no sidecar, no checks, no ledger. Nothing on boto3 in one process is faster than this."
    )
    bench.publish("s3boto3", "boto3 alone, against rclone", about, pair_head("boto3", "rclone"), rows)


def s3memory(bench: Bench) -> None:
    """Peak memory with long recordings onto S3."""
    rows = []
    with bench.contests(HEAVY, ["http"], S3Contest) as contests:
        for contest in contests:
            contest.make_ready(2)
            one = bench.note("s3memory", "archiver", contest, contest.archive())
            peak = [f"{one.peak_rss_bytes / MIB:,.0f}", f"{one.peak_rss_bytes / 1e6:,.0f}"]
            speed = [f"{one.wall_s:.1f}", f"{one.total_bytes / one.wall_s / 1e6:,.0f}"]
            rows.append([f"{one.count:,}", f"{one.total_bytes // one.count:,}", *speed, *peak])
    about = "The whole command with long recordings onto `rclone serve s3`, concurrency 32; http, one run."
    head = ["recordings", "bytes each", "s", "MB/s", "peak MiB", "peak MB"]
    bench.publish("s3memory", "Memory with S3", about, head, rows)
