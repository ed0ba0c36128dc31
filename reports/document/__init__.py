"""Reports that people hand to each other: what one holds, and its renderings as PDF and HTML."""
