"""A host that is not the lab's: from its recorded texts to what tracks there, what that fills, and what to do."""
