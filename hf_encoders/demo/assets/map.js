// Points of the map: one that is pointed at or walked to shows its scene; one that is clicked is searched by.
const point = (event) => event.target.closest && event.target.closest('circle[data-row]');

function show(circle) {
  const map = circle.closest('.hfe-map'), svg = circle.closest('svg'), tip = map.querySelector('.hfe-tip');
  const picture = tip.querySelector('img');
  picture.hidden = !svg.dataset.pictures;
  if (svg.dataset.pictures) picture.src = `${svg.dataset.pictures}/${svg.dataset.modality}/${circle.dataset.row}.jpg`;
  tip.querySelector('span').textContent = circle.getAttribute('aria-label');
  tip.hidden = false;
  const around = map.getBoundingClientRect(), at = circle.getBoundingClientRect();
  const left = at.left - around.left + at.width, top = at.top - around.top;
  tip.style.left = `${Math.max(0, left + tip.offsetWidth > around.width ? left - tip.offsetWidth - 2 * at.width : left)}px`;
  tip.style.top = `${Math.max(0, Math.min(top, around.height - tip.offsetHeight))}px`;
}

function hide() {
  for (const tip of element.querySelectorAll('.hfe-tip')) tip.hidden = true;
}

function choose(circle) {
  trigger('click', { modality: circle.closest('svg').dataset.modality, row: Number(circle.dataset.row) });
}

// The nearest point in a direction: what lies aside counts double.
function next(circle, dx, dy) {
  const x = Number(circle.getAttribute('cx')), y = Number(circle.getAttribute('cy'));
  let best = null, least = Infinity;
  for (const other of circle.parentNode.querySelectorAll('circle')) {
    const right = Number(other.getAttribute('cx')) - x, down = Number(other.getAttribute('cy')) - y;
    const along = right * dx + down * dy, aside = Math.abs(right * dy) + Math.abs(down * dx);
    if (along > 0 && along + 2 * aside < least) [best, least] = [other, along + 2 * aside];
  }
  return best;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

element.addEventListener('pointerover', (event) => { const circle = point(event); if (circle) show(circle); else hide(); });
element.addEventListener('pointerleave', hide);
element.addEventListener('focusin', (event) => { const circle = point(event); if (circle) show(circle); });
element.addEventListener('focusout', hide);
element.addEventListener('click', (event) => { const circle = point(event); if (circle) choose(circle); });
element.addEventListener('keydown', (event) => {
  const circle = point(event);
  if (!circle) return;
  if (event.key === 'Enter' || event.key === ' ') {
    event.preventDefault();
    choose(circle);
  } else if (event.key === 'Escape') {
    hide();
  } else if (ARROWS[event.key]) {
    event.preventDefault();
    const other = next(circle, ...ARROWS[event.key]);
    if (!other) return;
    circle.setAttribute('tabindex', '-1');
    other.setAttribute('tabindex', '0');
    other.focus();
  }
});
