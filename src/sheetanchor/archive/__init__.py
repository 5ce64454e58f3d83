"""The runbook's portable layout: folder, `.tar.gz`, `.tar.gz.enc`."""
