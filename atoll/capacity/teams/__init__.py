"""Teams, as OpenAI has them: nodes are tainted for whom they are allotted to; low priority borrows what is idle."""
