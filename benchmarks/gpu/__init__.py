"""What a GPU gives and whether it computes rightly, in one call of a few minutes.

A machine and a number of minutes in; a line a finding, written as soon as it is known, pictures and a profile out.
"""
