"""What a benchmark shows a person: one HTML page, charts, tables, TensorBoard.

leaderboard, rows, token savings -> Findings -> page, charts, tables
"""
