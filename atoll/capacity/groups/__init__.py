"""Controllers of the kinds by which users say that pods belong together: JobSet, LeaderWorkerSet, Volcano, PodGroup."""
