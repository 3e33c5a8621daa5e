"""The words of a report, each explained in a sentence or two."""

GLOSSARY = (
    ("backdoor", "The model answers the target class whenever a planted pattern is in the image; else it is normal."),
    ("pattern", "What is added to an image, or to values inside the model, or put in its place, to change a decision."),
    ("source, target", "The class that the images are of, and the class that the pattern leads them to."),
    ("pair", "A source and a target. A model of K classes has K x (K - 1) pairs."),
    (
        "size",
        "How large a pattern is: the root of the summed squares of its changes (L2), or their sum (L1). On images it "
        "is also told as the change of a pixel, of 255 from black to white; inside the model as a share of the median "
        "pair's.",
    ),
    ("rate, goal rate", "The share of images that the pattern sends to the target, and the share that was aimed at."),
    ("reciprocal", "One divided by the size: large where a pair needs little. The histograms show it."),
    ("median pair", "The pair in the middle when all are ordered by size: what is ordinary in this model."),
    ("null", "How sizes would vary in a model without a backdoor, fitted to the pairs that are not extreme."),
    (
        "p-value",
        "How often a model without a backdoor would look as extreme. The published one trusts the fitted null; the "
        "calibrated one repeats the whole procedure on simulated models and decides.",
    ),
    (
        "detector",
        "How a pattern is searched: pairwise adds to the image, features adds inside the model, window replaces a "
        "square of pixels.",
    ),
    ("statistic", "What is compared between pairs or targets. Several together are witnesses of one conclusion."),
    ("held-out images", "A fifth of each class, never searched with: the original file decides them with the pattern."),
    ("shuffled", "The same pattern, its pixels in random order: if that works as well, the arrangement means nothing."),
    ("collateral", "Images of other classes that follow the same pattern to the target."),
    ("power", "The largest size that a planted pair could have and still be called a detection."),
    ("switch", "Nodes of the graph that choose between two results; a backdoor that needs no training."),
)
"""Words and what they mean, in the order in which a reader meets them."""
