"The growth of growth.py at ten times MURA's size: some 400,000 files, minutes and 5 GB of disk"
from growth import main

if __name__ == '__main__': main((10,), 'growth10')
