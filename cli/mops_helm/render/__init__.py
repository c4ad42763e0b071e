"""Text for people and data for programs, from results that other rooms return. Functions return text."""
