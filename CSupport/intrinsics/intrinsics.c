// The header-only helpers of cintrinsics.h need one translation unit for the package manager.
#include "cintrinsics.h"
