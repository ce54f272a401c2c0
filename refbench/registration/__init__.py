"""How a reference lies over a draft, and how it is laid there: pose, light, figure and ground.

Used by the classical contestant `warp-blend` and by OmniRefiner's focus. No weights; OpenCV and NumPy alone.
"""
