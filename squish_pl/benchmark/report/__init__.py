"""What a benchmark shows a person: one HTML page, charts, tables, TensorBoard.

findings -> pictures -> page, files, TensorBoard
"""
