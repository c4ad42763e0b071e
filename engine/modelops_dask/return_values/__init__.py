"""Convert a function's return value to neutral columns, without a pickle of a model's objects.

    value -> shapes.py: one value, records or columns? -> values.py: the outputs by name
          -> cells.py, arrays.py, frames.py, arrow.py: lists, NumPy, pandas, Arrow's C interface -> columns.py
          -> neutral.py: the bytes, which store/neutral.py reads
    refusals.py: values that cannot be stored completely, in a sentence

It is loaded by path in a model's process, which has only the standard library and the model's own packages.
"""
