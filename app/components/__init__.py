"""Parts that several pages share: cards, filters, tables, the shell around a page."""
