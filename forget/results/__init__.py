"""Results of a trial: Rows, the numbers computed from them, and the Outcome that it leaves."""
