// kvd-sim: whole clusters in virtual time, from one seed. Entry point; everything else is in the other files.
import ArgumentParser

KVDSim.main()
