"""Other people's logs: which format they are in, what they say, and the tables that come of them."""

from __future__ import annotations

from ttc_sim.measured.importing.audit import Audit
from ttc_sim.measured.importing.call import Call
from ttc_sim.measured.importing.importer import IMPORTERS, Importer
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.running import import_logs
from ttc_sim.measured.importing.spooling import Scoring
from ttc_sim.measured.importing.understanding import Answers

__all__ = ["IMPORTERS", "Answers", "Audit", "Call", "Importer", "Sample", "Scoring", "import_logs"]
