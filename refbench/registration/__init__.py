"""How a reference lies over a draft, and how it is laid there: pose, light, figure and ground.

Used by the classical model `warp-blend` and by OmniRefiner's focus. OpenCV and NumPy alone, but for
XFeat (torch, 1.3 MB), which OmniRefiner asks where no box says where in the reference the detail is.
"""
