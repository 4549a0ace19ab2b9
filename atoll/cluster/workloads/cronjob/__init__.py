"""CronJobs: a Job each time the clock says so."""
