"""The golden rows: results of small runs (``rows.csv``), what they depend on (``about.csv``), and how they are made."""
