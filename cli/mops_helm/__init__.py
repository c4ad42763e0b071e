"""mops-helm: what a person types. Commands parse, call one function and print what it returns."""
