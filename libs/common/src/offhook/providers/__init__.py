"""One room per telephony provider, behind one small interface (`base.Provider`).

Nothing outside a provider's room branches on its name; adding a provider adds a folder and a line in
`registry`.
"""
