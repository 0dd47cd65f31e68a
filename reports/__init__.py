"""One self-contained HTML file per study."""
