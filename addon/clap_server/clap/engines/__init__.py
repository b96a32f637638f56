"""The audio tower of a checkpoint, run in whichever way is fastest on this machine."""
