"""What is to be trained: weightings, designs, tables, trials."""
