/** How frames of reference lie on each other: the same one, or through a registration that a person accepted. */

import { apply, invert } from './stack.js'

const SAME = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]

/**
 * From the mm of one frame of reference to those of another one, and who says so; null where nobody does.
 * @param {import('../contract.js').FrameLink[]} links the newest first @param {string} from @param {string} to
 * @returns {{ matrix: number[][], by: string } | null}
 */
export function across(links, from, to) {
  if (!from || !to) return null
  if (from === to) return { matrix: SAME, by: '' }
  for (const { source, target, matrix, by } of links) {
    if (source === from && target === to) return { matrix, by: by ?? '' }
    if (source === to && target === from) return { matrix: invert(matrix), by: by ?? '' }
  }
  return null
}

/** Where a voxel of one series lies in another one; null where nobody knows. */
export function voxelIn(other, stack, voxel, matrix) {
  const mm = stack.toMm(voxel)
  return mm && other.toVoxel(apply(matrix, mm))
}
