"""What several tests share: real servers, real programs, data. Import it as `support`."""
