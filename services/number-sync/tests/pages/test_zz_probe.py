import time, asyncio
from making import *
async def test_cost(service, ada):
    c = await a_configuration(service)
    w = await a_workflow(service)
    for n in range(60):
        await a_number(service, c, f"+1415555{2000+n}", workflow_id=id_of(w), label="x"*100)
    t=time.perf_counter(); 
    for _ in range(10): p = await ada.open(c)
    print("page", (time.perf_counter()-t)/10, len(p.html))
    import cProfile, pstats
    pr=cProfile.Profile(); pr.enable()
    t=time.process_time()
    for _ in range(10): await ada.first_live(c+"/live")
    print("live cpu", (time.process_time()-t)/10)
    pr.disable()
    pstats.Stats(pr).sort_stats("tottime").print_stats(18)
    t=time.process_time()
    for _ in range(10): await ada.first_live("/telephony-configurations/live")
    print("list live cpu", (time.process_time()-t)/10)
