"""Measured accuracies: one JSON file a row, with all settings, hashes and environments, and the values of each seed.

``compress reproduce ROW`` runs a row again and says whether it comes out inside the recorded interval. A record is made
from finished runs by ``compress reproduce --record FOLDER``, never by hand.
"""
