"""Runs of synthetic models, measured once a session."""

from report.conftest import folders as folders
from report.conftest import results as results
from report.conftest import suite as suite
