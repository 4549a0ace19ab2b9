"""PodGroups of the coscheduling plugin: their status follows their pods."""
