/** From a hanging protocol to a grid: how many rows and columns, and which series stands in each viewport. */

/**
 * Rows and columns that leave `count` viewports the largest squares.
 * @returns {[number, number]}
 */
export function bestGrid(count, width, height) {
  let best = [1, 1]
  let size = 0
  for (let columns = 1; columns <= 3; columns++) {
    const rows = Math.ceil(count / columns)
    if (rows > 3) continue
    const side = Math.min(width / columns, height / rows)
    if (side > size * 1.001) [best, size] = [[rows, columns], side]
  }
  return /** @type {[number, number]} */ (best)
}

/**
 * The series and the view of each viewport.
 * @param {import('../contract.js').Hanging} hanging @param {import('../contract.js').ReaderData['images']} images @param {string[]} modalities
 * @returns {{ index: number | null, plane: string, window: string }[]}
 */
export function cellsOf(hanging, images, modalities) {
  if (!hanging.cells.length) {
    const first = modalities.map((m) => images.find((i) => i.modality === m && !i.prior)).filter(Boolean)
    return first.slice(0, 9).map((i) => ({ index: i.index, plane: 'axial', window: '' }))
  }
  return hanging.cells.map((cell) => {
    const fit = images.filter((i) => i.modality === cell.modality && Boolean(i.prior) === cell.prior)
    const wanted = cell.role ? fit.filter((i) => i.role === cell.role) : fit
    const image = (wanted.length ? wanted : fit)[cell.nth]
    return { index: image ? image.index : null, plane: cell.plane, window: cell.window }
  })
}

/**
 * The grid as it stands, to be kept: series by modality, role and place among those that fit.
 * @returns {import('../contract.js').Hanging}
 */
export function hangingOf(rows, columns, panes, images) {
  const cells = panes.map((p) => {
    if (!p.meta) return { modality: '', role: '', nth: 0, plane: 'axial', window: '', prior: false }
    const same = images.filter((i) => i.modality === p.meta.modality && i.role === p.meta.role && Boolean(i.prior) === Boolean(p.meta.prior))
    const nth = Math.max(0, same.findIndex((i) => i.index === p.meta.index))
    return { modality: p.meta.modality, role: p.meta.role, nth, plane: p.mode, window: p.preset ?? '', prior: Boolean(p.meta.prior) }
  })
  return /** @type {import('../contract.js').Hanging} */ ({ name: 'own', title: '', rows, columns, cells })
}
