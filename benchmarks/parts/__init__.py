"""What every benchmark uses: numbers, tables and the documents they are written into."""
