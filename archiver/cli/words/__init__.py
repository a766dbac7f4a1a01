"""Reports as people read them on a terminal: plain lines, no colour, widths that fit 80 columns."""
