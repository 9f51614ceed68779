"""The parts of check_gpu.sh: does this machine train ELECTRA right, and how fast?"""
