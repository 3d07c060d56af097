"""What an ablation says: groups, tests, verdicts, tables, figures and the page that holds them."""
