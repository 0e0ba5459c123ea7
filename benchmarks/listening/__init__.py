"""What speech sounds like, in figures: of kokoro's own pipeline and of ours, over the same texts and voices."""
