"""A PBX on the wire, for tests, rehearsals and the demo: the vendor's API, every unknown as a switch, faults by script.

It needs nothing but the standard library and imports nothing from the rest of the archiver.
"""

from archiver.simulator.actions import (
    Action,
    Body,
    ContentEncoding,
    ContentLength,
    Cut,
    Delay,
    Drip,
    Drop,
    ExpireToken,
    Extra,
    Frame,
    HeaderFlood,
    Headers,
    Raw,
    Redirect,
    Stall,
    Status,
)
from archiver.simulator.corpus import Corpus
from archiver.simulator.faults import Fault, FaultScript
from archiver.simulator.mp3 import BytesMedia, MediaSource, Mp3Media
from archiver.simulator.rows import DELETE, GREGORIAN_OFFSET_S, SimulatedCdr, SimulatedRecording
from archiver.simulator.running import SimulatorThread, serve, summary
from archiver.simulator.server import Simulator
from archiver.simulator.signin import Credentials
from archiver.simulator.stats import Stats
from archiver.simulator.switches import BucketRule, Switches
from archiver.simulator.tls import Certificate, make_certificate

__all__ = [
    "DELETE",
    "GREGORIAN_OFFSET_S",
    "Action",
    "Body",
    "BucketRule",
    "BytesMedia",
    "Certificate",
    "ContentEncoding",
    "ContentLength",
    "Corpus",
    "Credentials",
    "Cut",
    "Delay",
    "Drip",
    "Drop",
    "ExpireToken",
    "Extra",
    "Fault",
    "FaultScript",
    "Frame",
    "HeaderFlood",
    "Headers",
    "MediaSource",
    "Mp3Media",
    "Raw",
    "Redirect",
    "SimulatedCdr",
    "SimulatedRecording",
    "Simulator",
    "SimulatorThread",
    "Stall",
    "Stats",
    "Status",
    "Switches",
    "make_certificate",
    "serve",
    "summary",
]
