"""What training asks for: one sentence where the draft shows the right thing badly, one where it shows another.

At the FLUX scale T5 and CLIP read them. The tiny scale has no text encoder and reads of any prompt only which of the
two it is (:func:`refbench.omnirefiner.tiny.prompt.embed_bits`).
"""

RESTORE = "Restore the detail inside the mask from the reference."
REPLACE = "Replace the detail inside the mask with the reference's."
