/* app.js: the search page. One query at a time: a photo, an item ("more like this"), or none, which lists the catalogue.
 * The address names catalogue and item (#/shop, #/shop/sku-1), so the browser's Back and bookmarks work. */
'use strict';

const SIDE = 1024;                                              /* long side of the photo that is sent */
const SENT_AS_IS = ['image/jpeg', 'image/png', 'image/webp'];   /* what the server decodes */
const ATTRIBUTES_SHOWN = 5;
const KEY_SLOT = 'likeness.key';

const $ = id => document.getElementById(id);
const say = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const show = (id, on) => { $(id).hidden = !on; };

function make(tag, props, ...children)
{
    const e = Object.assign(document.createElement(tag), props);
    e.append(...children);
    return e;
}

/* ---- the server ------------------------------------------------------------------------------------------------- */

class Problem extends Error {
    constructor(status, body)
    {
        super(body.detail || body.title || `The server answered with status ${status}.`);
        Object.assign(this, {status, code: body.code || '', field: body.field || ''});
    }
}

/* A browser may refuse storage altogether; the key then lasts until the page is left. */
const slot = {
    get: () => { try { return sessionStorage.getItem(KEY_SLOT) || ''; } catch { return ''; } },
    set: k => { try { k ? sessionStorage.setItem(KEY_SLOT, k) : sessionStorage.removeItem(KEY_SLOT); } catch { /* see above */ } },
};
let key = slot.get();

async function call(path, options = {})
{
    const headers = {...options.headers};
    if (key) headers.Authorization = `Bearer ${key}`;
    let reply;
    try {
        reply = await fetch(path, {...options, headers});
    } catch (e) {
        if (e.name === 'AbortError') throw e;
        throw new Problem(0, {detail: 'The server cannot be reached. Is it running?'});
    }
    if (!reply.ok) throw new Problem(reply.status, await reply.json().catch(() => ({})));
    return reply;
}

const callJson = async (path, options) => (await call(path, options)).json();

/* Renditions need the key too, and an <img> cannot send it: then they are fetched when they come near the view and shown
 * as blobs, which are released with `signal`. */
const waiting = new WeakMap();
const near = new IntersectionObserver(seen => {
    for (const {target, isIntersecting} of seen) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        fetchPicture(target, waiting.get(target));
    }
}, {rootMargin: '400px'});

function setPicture(img, url, signal)
{
    img.onerror = () => img.classList.add('gone');
    img.classList.remove('gone');
    img.removeAttribute('src');
    near.unobserve(img);
    if (!url) return;
    if (!key) {
        img.src = url;
        return;
    }
    waiting.set(img, {url, signal});
    near.observe(img);
}

async function fetchPicture(img, {url, signal})
{
    try {
        const blob = await (await call(url, {signal})).blob();
        if (signal.aborted) return;
        const src = URL.createObjectURL(blob);
        signal.addEventListener('abort', () => URL.revokeObjectURL(src), {once: true});
        img.src = src;
    } catch (e) {
        if (e.name !== 'AbortError') img.classList.add('gone');
    }
}

/* ---- state ------------------------------------------------------------------------------------------------------ */

let catalogues = [];
let catalogue = '';
let item = null;               /* id of the query item, or null */
let photo = null;              /* {blob, url}: what is sent is what is shown */
let crop = null;               /* {l, t, r, b}: edges as fractions, or null = whole photo */
let query = null;              /* the last one sent, repeated for the next page */
let nextToken = '';
let shownCount = 0;
let running = new AbortController();    /* the search under way */
let onGrid = new AbortController();     /* ends when the grid is cleared: frees its pictures */

const base = () => `/v1/catalogues/${encodeURIComponent(catalogue)}`;
const address = (c, id) => `#/${encodeURIComponent(c)}` + (id === undefined ? '' : `/${encodeURIComponent(id)}`);
const titleOf = it => (it.attributes && typeof it.attributes.title === 'string' && it.attributes.title.trim()) || it.id;
const plural = (n, one) => `${n.toLocaleString('en')} ${one}${n === 1 ? '' : 's'}`;

/* ---- queries ---------------------------------------------------------------------------------------------------- */

function cropParameter(c)
{
    const whole = v => Math.round(v * 10000);   /* whole ten-thousandths: x + w never exceeds 1 */
    const x = whole(c.l), y = whole(c.t);
    return [x, y, Math.max(1, whole(c.r) - x), Math.max(1, whole(c.b) - y)].map(v => v / 10000).join(',');
}

function currentQuery()
{
    const args = {limit: $('limit').value};
    const filter = $('filter').value.trim();
    if (filter) args.filter = filter;
    if (item === null && !photo) return {kind: 'list', path: `${base()}/items`, args, init: {}};

    if (names.size > 0) args.facets = [...names].slice(0, 6).join(',');
    const least = $('minscore').value;
    if (least !== '') args.min_score = least;
    const init = {method: 'POST'};
    if (item !== null) {
        init.headers = {'Content-Type': 'application/json'};
        init.body = JSON.stringify({item});
    } else {
        init.headers = {'Content-Type': photo.blob.type};
        init.body = photo.blob;
        if (crop) args.crop = cropParameter(crop);
    }
    return {kind: item !== null ? 'item' : 'photo', path: `${base()}/search`, args, init};
}

async function fetchPage(q, token, signal)
{
    const args = new URLSearchParams(q.args);
    if (token) args.set('page_token', token);
    const page = await callJson(`${q.path}?${args}`, {...q.init, signal});
    return {hits: page.results || page.items, next: page.next_page_token || '', took: page.took_ms, model: page.model,
        facets: page.facets};
}

function checkOptions()
{
    const bad = !$('minscore').checkValidity();
    $('minscore').setAttribute('aria-invalid', bad);
    say('minerror', bad ? 'The least score is a number from -1 to 1.' : '');
    if (bad) $('more-options').open = true;
    return !bad;
}

async function search()
{
    if (!catalogue || !checkOptions()) return;
    running.abort();
    const {signal} = running = new AbortController();
    clearErrors();
    show('next', false);
    $('grid').setAttribute('aria-busy', 'true');
    const q = query = currentQuery();
    say('status', q.kind === 'list' ? 'Loading…' : 'Searching…');
    try {
        const page = await fetchPage(q, '', signal);
        clearGrid();
        await showPage(q, page);
    } catch (e) {
        if (e.name === 'AbortError') return;
        clearGrid();
        fail(e);
    }
    if (!signal.aborted) $('grid').setAttribute('aria-busy', 'false');
}

async function more()
{
    const {signal} = running;
    const first = shownCount;
    $('next').disabled = true;
    clearErrors();
    try {
        const page = await fetchPage(query, nextToken, signal);
        await showPage(query, page);
        if ($('next').hidden) $('grid').children[first]?.querySelector('.like').focus();
    } catch (e) {
        if (e.name !== 'AbortError') fail(e);
    }
    $('next').disabled = false;
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

function clearGrid()
{
    onGrid.abort();
    onGrid = new AbortController();
    for (const img of $('grid').querySelectorAll('img')) near.unobserve(img);
    $('grid').replaceChildren();
    shownCount = 0;
    show('next', false);
}

/* What the results may be narrowed to: attributes of the items shown so far whose values repeat. A click adds to the filter. */
const names = new Set();

function learnNames(hits)
{
    for (const {attributes} of hits)
        for (const [k, v] of Object.entries(attributes || {})) if (typeof v !== 'number' && !/[,:]/.test(k)) names.add(k);
}

function narrow(field, value)
{
    const quote = t => `"${t.replace(/[\\"*]/g, '\\$&')}"`, was = $('filter').value.trim();
    $('filter').value = (was && `(${was}) AND `) + `${quote(field)}:${typeof value === 'string' ? quote(value) : value}`;
    search();
}

function showFacets(fields)
{
    $('facets').replaceChildren(...fields.filter(f => f.distinct > 1 && f.values[0].count > 1).map(f =>
        make('p', {className: 'small', textContent: f.field}, ...f.values.slice(0, 8).map(({value, count}) =>
            make('button', {type: 'button', textContent: `${value} ${count}`, onclick: () => narrow(f.field, value)})))));
}

async function showPage(q, page)
{
    learnNames(page.hits);
    showFacets(page.facets ? page.facets.fields : []);
    $('grid').append(...page.hits.map(card));
    shownCount += page.hits.length;
    nextToken = page.next;
    show('next', nextToken !== '');
    if (page.model) say('model', `Model ${page.model}`);
    if (shownCount === 0) return showNothing(q);
    const what = q.kind === 'list' ? `${shownCount} shown` : plural(shownCount, 'result');
    say('status', what + (page.took === undefined ? '' : `, ${page.took.toFixed(1)} ms`) + (q.args.crop ? ', for a part of the photo' : ''));
}

async function showNothing(q)
{
    const {signal} = running;
    await loadCatalogues();
    if (signal.aborted) return;
    const empty = catalogues.some(c => c.name === catalogue && c.items === 0);
    show('empty', empty);
    if (empty) return say('status', '');
    if (q.args.filter && q.args.min_score) return say('status', 'Nothing passes this filter and this least score.');
    if (q.args.filter) return say('status', 'Nothing passes this filter.');
    say('status', q.args.min_score ? 'Nothing reaches this least score.' : 'Nothing was found.');
}

function attributeList(attributes)
{
    const rows = Object.entries(attributes || {}).filter(([k, v]) => k !== 'title' || typeof v !== 'string').map(([k, v]) =>
        make('div', {}, make('dt', {textContent: k}), make('dd', {textContent: Array.isArray(v) ? v.join(', ') : String(v)})));
    const parts = [];
    if (rows.length > 0) parts.push(make('dl', {}, ...rows.slice(0, ATTRIBUTES_SHOWN)));
    if (rows.length > ATTRIBUTES_SHOWN) {
        const rest = rows.slice(ATTRIBUTES_SHOWN);
        parts.push(make('details', {}, make('summary', {textContent: `${rest.length} more`}), make('dl', {}, ...rest)));
    }
    return parts;
}

function card(hit)
{
    const title = titleOf(hit), href = address(catalogue, hit.id), image = hit.image || (hit.images || [])[0];
    const img = make('img', {alt: '', loading: 'lazy', decoding: 'async', draggable: false});
    const pic = make('a', {className: 'pic', href, tabIndex: -1}, img);
    pic.setAttribute('aria-hidden', 'true');
    const like = make('a', {className: 'like', href, textContent: 'More like this'});
    like.setAttribute('aria-label', `More like this: ${title}`);

    const text = make('div', {className: 'text'}, make('h3', {textContent: title}));
    if (title !== hit.id) text.append(make('p', {className: 'muted small', textContent: hit.id}));
    if (hit.score !== undefined) {
        const score = make('p', {className: 'score', title: 'Cosine similarity'}, make('span', {className: 'hush', textContent: 'Score '}));
        score.append(hit.score.toFixed(3));
        text.append(score);
    }
    text.append(...attributeList(hit.attributes), like);
    setPicture(img, image && image.url, onGrid.signal);
    return make('li', {}, pic, text);
}

/* ---- errors and the key ----------------------------------------------------------------------------------------- */

function clearErrors()
{
    for (const id of ['filtererror', 'photoerror', 'errortext']) say(id, '');
    $('filter').removeAttribute('aria-invalid');
    show('error', false);
    show('empty', false);
}

function fail(e)
{
    say('status', '');
    if (e.status === 401) return askKey(key ? 'The server does not accept this key.' : '');
    if (e.code === 'filter_invalid' || e.field === 'filter') {
        $('more-options').open = true;
        $('filter').setAttribute('aria-invalid', 'true');
        say('status', 'The filter cannot be read.');
        return say('filtererror', e.message);
    }
    if (query && query.kind === 'photo' && [413, 415, 422].includes(e.status)) return say('photoerror', e.message);
    if (!(e instanceof Problem)) console.error(e);
    show('error', true);
    say('errortext', e.message);
}

function openKey(open)
{
    show('keyform', open);
    show('keybutton', open || key !== '');
    show('keyforget', key !== '');
    $('keybutton').setAttribute('aria-expanded', open);
    if (open) $('key').focus();
}

function askKey(why)
{
    openKey(true);
    say('keyerror', why);
    $('key').value = '';
}

function setKey(k)
{
    key = k;
    slot.set(k);
    $('key').value = '';
    clearGrid();
    say('status', '');
    openKey(false);
    start();
}

/* ---- the photo -------------------------------------------------------------------------------------------------- */

async function decode(file)
{
    try {
        return await createImageBitmap(file, {imageOrientation: 'from-image'});
    } catch { /* no picture, or a browser of before 2023, which does not know the option: an <img> is upright there too */ }
    const img = new Image(), url = URL.createObjectURL(file);
    try {
        img.src = url;
        await img.decode();
        return img;
    } finally {
        URL.revokeObjectURL(url);
    }
}

/* Upright and no larger than the search can use. A small photo that the server reads is sent untouched. */
async function prepare(file)
{
    const bitmap = await decode(file);
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    if (scale === 1 && SENT_AS_IS.includes(file.type) && file.size <= 2 << 20) return file;
    const canvas = make('canvas', {width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale))});
    const g = canvas.getContext('2d');
    g.fillStyle = '#fff';
    g.fillRect(0, 0, canvas.width, canvas.height);
    g.imageSmoothingQuality = 'high';
    g.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    if (bitmap.close) bitmap.close();
    const blob = await new Promise(done => canvas.toBlob(done, 'image/jpeg', 0.9));
    if (!blob) throw new Error('The browser could not shrink the photo.');
    return blob;
}

let preparing = 0;
async function takePhoto(file)
{
    const mine = ++preparing;
    say('photoerror', '');
    say('status', 'Reading the photo…');
    let blob;
    try {
        blob = await prepare(file);
    } catch {
        if (mine !== preparing) return;
        say('status', '');
        return say('photoerror', 'This file is not a picture that the browser can read. JPEG, PNG and WebP work everywhere.');
    }
    if (mine === preparing) setPhoto(blob);
}

function setPhoto(blob)
{
    preparing++;
    if (photo) URL.revokeObjectURL(photo.url);
    photo = blob && {blob, url: URL.createObjectURL(blob)};
    crop = null;
    if (photo) $('photo').src = photo.url;
    else $('photo').removeAttribute('src');
    placeCrop();
    if (item !== null) location.hash = address(catalogue);      /* hashchange does the rest */
    else if (catalogue) refresh();
    else start();      /* the server could not be asked before */
}

function takeFrom(files)
{
    const all = [...files];
    const file = all.find(f => f.type.startsWith('image/')) || all[0];
    if (file) takePhoto(file);
}

/* ---- the crop rectangle ----------------------------------------------------------------------------------------- */

const WHOLE = {l: 0, t: 0, r: 1, b: 1};
const LEAST = 24;   /* pixels of a side on the screen */
const clamp = (v, lo, hi) => Math.min(Math.max(v, lo), hi);

function placeCrop(c = crop)
{
    const box = $('crop'), {l, t, r, b} = c || WHOLE;
    Object.assign(box.style, {left: `${l * 100}%`, top: `${t * 100}%`, right: `${(1 - r) * 100}%`, bottom: `${(1 - b) * 100}%`});
    box.classList.toggle('whole', !c);
    show('whole', photo && item === null && c);
}

function setCrop(c)
{
    crop = c && (c.r - c.l > 0.995 && c.b - c.t > 0.995 ? null : c);
    placeCrop();
    const percent = v => Math.round(v * 100);
    say('cropsay', crop ? `${percent(crop.l)} to ${percent(crop.r)} percent across, ${percent(crop.t)} to ${percent(crop.b)} percent down` : 'Whole photo');
    search();
}

/* What a drag makes of the rectangle: a corner pulls, inside moves, anywhere else draws a new one. */
function dragger(c, corner, inside, from)
{
    const sorted = (a, p) => ({l: Math.min(a.x, p.x), t: Math.min(a.y, p.y), r: Math.max(a.x, p.x), b: Math.max(a.y, p.y)});
    if (corner) {
        const {l, t, r, b} = c || WHOLE;
        const fixed = {x: corner[0] === 'l' ? r : l, y: corner[1] === 't' ? b : t};
        return p => sorted(fixed, p);
    }
    if (!c || !inside) return p => sorted(from, p);
    return p => {
        const dx = clamp(p.x - from.x, -c.l, 1 - c.r), dy = clamp(p.y - from.y, -c.t, 1 - c.b);
        return {l: c.l + dx, t: c.t + dy, r: c.r + dx, b: c.b + dy};
    };
}

function startDrag(down)
{
    if (down.button !== 0 || !down.isPrimary) return;
    const stage = $('stage'), area = $('photo').getBoundingClientRect();
    const at = e => ({x: clamp((e.clientX - area.left) / area.width, 0, 1), y: clamp((e.clientY - area.top) / area.height, 0, 1)});
    const shape = dragger(crop, down.target.dataset.corner, $('crop').contains(down.target), at(down));
    let next = null;
    const move = e => {
        if (e.pointerId !== down.pointerId) return;
        const c = shape(at(e));
        if ((c.r - c.l) * area.width < LEAST || (c.b - c.t) * area.height < LEAST) return;
        placeCrop(next = c);
    };
    const end = e => {
        if (e.pointerId !== down.pointerId) return;
        for (const [type, f] of handlers) stage.removeEventListener(type, f);
        if (e.type === 'pointerup' && next) setCrop(next);
        else placeCrop();       /* a click, or the browser scrolls instead */
    };
    const handlers = [['pointermove', move], ['pointerup', end], ['pointercancel', end]];
    for (const [type, f] of handlers) stage.addEventListener(type, f);
    stage.setPointerCapture(down.pointerId);
    down.preventDefault();
    $('crop').focus({preventScroll: true, focusVisible: false});
}

let cropTimer = 0;
function cropKey(e)
{
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key];
    if (e.key === 'Escape' && crop) setCrop(null);
    if (!step || e.ctrlKey || e.altKey || e.metaKey) return;
    e.preventDefault();
    const c = {...(crop || WHOLE)}, [dx, dy] = step.map(v => v * 0.02), least = 0.06;
    if (e.shiftKey) {
        c.r = clamp(c.r + dx, c.l + least, 1);
        c.b = clamp(c.b + dy, c.t + least, 1);
    } else {
        const mx = clamp(dx, -c.l, 1 - c.r), my = clamp(dy, -c.t, 1 - c.b);
        Object.assign(c, {l: c.l + mx, r: c.r + mx, t: c.t + my, b: c.b + my});
    }
    placeCrop(crop = c);
    clearTimeout(cropTimer);
    cropTimer = setTimeout(() => { if (photo) setCrop(crop); }, 400);
}

/* ---- catalogue, item, address ----------------------------------------------------------------------------------- */

async function loadCatalogues()
{
    ({catalogues} = await callJson('/v1/catalogues'));
    $('catalogue').replaceChildren(...catalogues.map(c => make('option', {value: c.name, textContent: c.name})));
    showCatalogue();
}

function showCatalogue()
{
    const c = catalogues.find(x => x.name === catalogue);
    $('catalogue').value = catalogue;
    names.clear();
    say('count', c ? plural(c.items, 'item') : '');
}

/* [catalogue, item or null] of the address; nonsense counts as nothing. */
function readAddress()
{
    try {
        const [, c, id] = /^#\/([^/]+)(?:\/(.+))?$/.exec(location.hash).map(s => s && decodeURIComponent(s));
        return [c, id === undefined ? null : id];
    } catch {
        return ['', null];
    }
}

function preferredCatalogue()
{
    return (catalogues.find(c => c.name === 'default') || catalogues[0] || {name: ''}).name;
}

async function showItem(signal)
{
    say('itemtitle', item);
    $('itemdetails').replaceChildren();
    setPicture($('itemphoto'), '', signal);
    try {
        const it = await callJson(`${base()}/items/${encodeURIComponent(item)}`, {signal});
        say('itemtitle', titleOf(it));
        say('heading', `Most like ${titleOf(it)}`);
        $('itemdetails').replaceChildren(...attributeList(it.attributes));
        setPicture($('itemphoto'), it.images[0] && it.images[0].url, signal);
    } catch {
        /* the search for the same item says what is wrong */
    }
}

let onItem = new AbortController();     /* ends when another item, or none, is the query */
function refresh()
{
    const byItem = item !== null, byPhoto = !byItem && photo !== null;
    show('prompt', !byItem && !byPhoto);
    show('photobox', byPhoto);
    show('itembox', byItem);
    show('remove', byPhoto);
    show('whole', byPhoto && crop);
    show('back', byItem);
    $('back').href = address(catalogue);
    say('chooselabel', byPhoto ? 'Change' : 'Choose a photo');
    $('chooselabel').classList.toggle('main', !byPhoto);
    say('back', photo ? 'Back to your photo' : 'Whole catalogue');
    say('heading', byItem ? `Most like ${item}` : byPhoto ? 'Most like your photo' : 'In this catalogue');
    $('minscore').disabled = !byItem && !byPhoto;
    onItem.abort();
    onItem = new AbortController();
    if (byItem) showItem(onItem.signal);
    return search();
}

function openAddress()
{
    [catalogue, item] = readAddress();
    if (!catalogue) catalogue = preferredCatalogue();
    showCatalogue();
    return refresh();
}

async function start()
{
    clearErrors();
    try {
        await loadCatalogues();
    } catch (e) {
        if (e.code !== 'not_ready') return fail(e);
        say('status', 'The server is starting…');
        return void setTimeout(start, 1000);
    }
    if (catalogues.length === 0) return show('empty', true);
    await openAddress();
}

/* ---- events ----------------------------------------------------------------------------------------------------- */

function listen()
{
    window.addEventListener('hashchange', () => {
        if (location.hash !== '' && !location.hash.startsWith('#/')) return;    /* the skip link */
        openAddress();
        window.scrollTo(0, 0);
        $('heading').focus({preventScroll: true});
    });
    $('catalogue').addEventListener('change', e => { location.hash = address(e.target.value); });

    for (const id of ['choose', 'snap'])
        $(id).addEventListener('change', e => {
            takeFrom(e.target.files);
            e.target.value = '';    /* the same file may be chosen again */
        });
    $('remove').addEventListener('click', () => { setPhoto(null); $('choose').focus(); });
    $('whole').addEventListener('click', () => { setCrop(null); $('crop').focus(); });
    window.addEventListener('paste', e => {
        if (e.clipboardData && e.clipboardData.files.length > 0) {
            e.preventDefault();
            takeFrom(e.clipboardData.files);
        }
    });
    const dropping = on => document.body.classList.toggle('dropping', on);
    const files = e => e.dataTransfer.types.includes('Files');      /* text may still be dropped into the fields */
    window.addEventListener('dragover', e => { if (files(e)) { e.preventDefault(); dropping(true); } });
    window.addEventListener('dragleave', e => { if (!e.relatedTarget) dropping(false); });
    window.addEventListener('drop', e => { if (files(e)) { e.preventDefault(); dropping(false); takeFrom(e.dataTransfer.files); } });

    $('stage').addEventListener('pointerdown', startDrag);
    $('crop').addEventListener('keydown', cropKey);

    let timer = 0;      /* Enter in a field is a change and a submit: one search */
    const soon = () => { clearTimeout(timer); timer = setTimeout(search); };
    $('options').addEventListener('submit', e => { e.preventDefault(); soon(); });
    $('options').addEventListener('change', soon);
    $('next').addEventListener('click', more);
    for (const id of ['again', 'look']) $(id).addEventListener('click', () => { $('heading').focus(); start(); });

    $('keybutton').addEventListener('click', () => openKey($('keyform').hidden));
    $('keyforget').addEventListener('click', () => setKey(''));
    $('keyform').addEventListener('submit', e => {
        e.preventDefault();
        const k = $('key').value.trim();
        if (!/^[\x21-\x7e]+$/.test(k)) return say('keyerror', 'A key has letters, digits and signs without blanks.');
        say('keyerror', '');
        setKey(k);
    });
}

$('more-options').open = window.matchMedia('(min-width: 56rem)').matches;
listen();
openKey(false);
start();
