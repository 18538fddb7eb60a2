"""Summaries that people have rated, from files of several formats.

text -> format, told by its content -> lines -> documents with their summaries
"""
