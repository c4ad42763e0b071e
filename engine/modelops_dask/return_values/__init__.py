"""What becomes of a function's return value: neutral columns, read without a pickle of a model's objects.

    value -> shapes.py: one value, records or columns? -> values.py: the outputs by name
          -> cells.py, arrays.py, frames.py, arrow.py: lists, NumPy, pandas, Arrow's C interface -> columns.py
          -> neutral.py: the bytes, which store/neutral.py reads
    refusals.py: what cannot be stored whole, in a sentence

Loaded by path in a model's process, which has the standard library and the model's own packages only.
"""
