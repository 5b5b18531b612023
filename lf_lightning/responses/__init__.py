"""What was paid for: raw replies of providers, and the ledger of every attempt. The score store is rebuilt from here for nothing."""
