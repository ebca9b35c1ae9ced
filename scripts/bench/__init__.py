"""What the measuring scripts share: servers, load, statistics, reports."""
