"""Text for people and data for programs, from results of other folders. Functions return text."""
