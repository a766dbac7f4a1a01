"""The page that people read: facts about an archive become one self-contained HTML file, without scripts or network."""
