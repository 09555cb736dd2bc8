"""Who may do what: the rule language, the policies of a token, and the judge made of them."""
