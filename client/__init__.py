"""The hospital: data, learners, privacy and its own authority over both."""
