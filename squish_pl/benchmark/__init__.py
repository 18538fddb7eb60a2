"""The benchmark: any summariser, one leaderboard.

documents x budgets x samples -> contenders -> answers -> store -> scorer -> scores -> store -> leaderboard, report
"""
