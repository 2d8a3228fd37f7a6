"""The agreement of hosts for pages and reports: the records and words of warehouse.database.agreement."""

from __future__ import annotations

from warehouse.database.agreement import NOT_A_TEST as NOT_A_TEST
from warehouse.database.agreement import Mark as Mark
from warehouse.database.agreement import Pair as Pair
from warehouse.database.agreement import PhaseAgreement as PhaseAgreement
from warehouse.database.agreement import RunAgreement as RunAgreement
from warehouse.database.agreement import in_words as in_words
